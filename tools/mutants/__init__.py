"""`make mutants`: change the code in one place at a time, and check whether a test fails.

    python -m tools.mutants [--seed N] [--rooms keystore writeback] [--all] [--jobs 2]

A mutant is one small change of one module: `<` for `<=`, a condition negated, a statement removed.  A seed
draws the sample, so that a run can be repeated.  A mutant is killed if a test of its room fails, or no longer
ends.  Survivors are listed in `survivors.toml`, each with its reason; any other survivor fails the run.

    sites.py       the places of a module that can be changed, and the change of each
    operators.py   the changes of expressions and statements
    rooms.py       the rooms: modules, tests, how many mutants are drawn, the least score
    sample.py      the seeded choice
    reach.py       the tests that can kill a mutant: measured once, stored in .mutants/
    forking.py     work in a forked process
    patching.py    a mutant in functions that are loaded already
    loading.py     the modules that a mutant does not change
    trial.py       a mutant whose module is loaded anew; the run of the tests, the time-outs
    server.py      the processes that fork a child for each mutant
    survivors.py   the file of survivors
    report.py      the scores, and all that fails a run
"""
