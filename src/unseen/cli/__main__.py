from unseen.cli.app import main

main()
