"""The console's literal command lines: a module for each family, `run` for all (spec/console.md#lines)."""

# A line of the real console
#
# People have scripts for the real console.  They read its lists by name or by position, compare its HSCL
# numbers, and pass options that have no meaning for an emulated system.  So a line must guarantee:
#
#   1. The grammar, the names and the order of attributes, and the HSCL texts are those of public sources.
#      All else is our own choice, which spec/choices.md lists.
#   2. An option or an attribute that is not known is refused by name.  An ignored one is listed (`ignored`).
#      A line that is misspelt never does half of its work.
#   3. All of a line is read and checked before its first effect, as far as the console alone can check it.
#   4. A line opens no file.  The command opens it, with the rights of its own user (`caller`).
#   5. A line of much text does not delay the other lines: between two records it lets other tasks run.
#
# A command is a row: its options as a table (`options.Syntax`), and a function.  The tables also make the
# usage texts, the completion of shells and the tables of spec/console.md, so none of them can differ from the
# parser.
#
# A list is a row for each attribute, in the order of the record: a name, and a getter.  The same row prints a
# record and the values after `-F`.
