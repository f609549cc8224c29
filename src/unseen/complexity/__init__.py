"""How complex images are, and degradations: a network fits the simpler of the two.

`structural`, `compression`, `spectrum` and `gradients` measure pictures, one at a time; `learned` measures how fast a
small network learns to predict a set of them. `survey` measures folders and degradations with all of these, and
`record` holds what was found, without torch. docs/complexity.md says what each measure sees and what it does not.
"""
