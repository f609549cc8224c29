"""A study's record as a page, a text and tables: `page.write_report`. Works from rows, imports no torch."""
