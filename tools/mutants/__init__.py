"""`make mutants`: change the code in one place at a time, and see whether a test notices.

    python -m tools.mutants [--seed N] [--rooms keystore writeback] [--all] [--jobs 2]

A mutant is one small change of one module: `<` for `<=`, a condition negated, a statement removed.  A seed
draws the sample, so that a run can be repeated.  A mutant is killed if a test of its room fails, or no longer
ends.  Survivors stand in `survivors.toml`, each with its reason; any other survivor fails the run.

    sites.py       the places of a module that can be changed, and the change of each
    operators.py   the changes of expressions and statements
    rooms.py       the rooms: modules, tests, how many mutants are drawn, the least score
    sample.py      the seeded choice
    trial.py       one mutant in a process of its own: the changed module, the tests, the time-outs
    server.py      forks these processes from one that has loaded all that a mutant does not change
    survivors.py   the file of survivors
    report.py      the scores, and all that fails a run
"""
