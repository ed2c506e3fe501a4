"""The console's literal command lines: a module for each family, `run` for all (spec/console.md#lines)."""

# A line of the real console
#
# People have scripts for the real console.  They read its lists by name or by position, compare its HSCL
# numbers, and pass options that have no meaning for an emulated system.  So a line must guarantee:
#
#   1. The grammar, the names and the order of attributes, and the HSCL texts are those of public sources.
#      All else is our own choice, which spec/choices.md lists.
#   2. An unknown option or attribute is refused by name.  Ignored ones have a list of their own (`ignored`).
#      A misspelt line never does half of its work.
#   3. The console reads a whole line before its first effect, and checks all that it can check alone.
#   4. A line opens no file.  The command opens it, with the rights of its own user (`caller`).
#   5. A line of much text does not delay the other lines: between two records it lets other tasks run.
#
# A command has a table of its options (`options.Syntax`), and a function.  Usage texts, the completion of
# shells and the tables of spec/console.md are made from the same tables.  So they agree with the parser.
#
# A list has a row for each attribute, in the order of the record: a name, and a getter.  The same rows print
# a record and the values after `-F`.
