from cloze.cli import main

main()
