"""The management console: rules, store and jobs.  `swpks.hmc` is its process."""

# The management console
#
# A console manages several systems.  It holds sealed copies of their stores, and restores a lost store.  It
# saves and restores profiles.  It decides which system owns a partition that moves.  It must guarantee:
#
#   1. A crash loses nothing that was answered.  The console stores a change durably first.  Only then it
#      sends the answer, or the request to a system, that follows from the change.
#   2. The console opens no copy.  Copies are sealed under trusted system keys, and these keys under
#      root keys that never leave their systems.
#   3. While the console is away, copies, recoveries and moves wait.  A partition that may have been restarted
#      elsewhere waits with its start.  All other calls of guests, and all verbs of a system, go on.
#   4. An error, a delay or a false answer of one system stays with this system.  Each system has its own
#      task, its own stream and its own job.  The form of each answer is checked before any of it is stored or
#      printed.
#   5. No order of the console lets two systems serve one store (`entries`).  This depends on the operator:
#      a system that the operator calls lost must be lost (spec/migration.md#remote-restart).
#
# There are three kinds of state:
#
#   store      One SQLite file (`store`, `database`): identity, systems, copies, sealed keys, register, jobs.
#              Each function is one transaction.  A console that was killed goes on from this file alone.
#   views      The last answer of each system, in memory (`KnownSystem.view`).  A view may be old as soon as
#              it arrives.  So a view never permits a change: the system checks each request itself.  The
#              console stores a short form of the last view.  Lists show it while the system is away.
#   register   Which system owns a partition, and how its last attempt to move stands (`entries`, `registry`).
#              It is a part of the store.
#
# Work begins in three ways:
#
#   events     The stream of a system (`watch`).  An event names what has changed.  The console then requests
#              the present view, and acts on the view.  So a repeated or late event does no harm.  If an event
#              is lost, the system asks again, or the console requests the view at the next connection.
#   commands   Lines of the real console (`lines`), and our own verbs (`swpks.hmc.orders`).
#   jobs       Work that has to survive a restart of the console (`jobs`).
#
# All of it runs on one event loop.  So code between two awaits is atomic.  There is no await between a check
# and the entry or job that depends on it.  The store is written on the loop too: the console writes rarely,
# and a commit takes about 10 ms (`database`).
#
# The console dials, and a system never does: a system that dials would need an address and a secret of its
# console (spec/choices.md, C-75).  This package reaches a system only through the Protocol `link.SystemLink`.
# `swpks.hmc` makes links over sockets.  Tests and the simulation make links to machines in the same process.
#
# Dropped:
#
#   - At first only the register of moved partitions decided who may have a store.  A partition that never
#     moved has no entry.  So one system could serve it, and a second system a restored copy of it.  Now the
#     console also reads the stores in views, and the copies of systems that are away (`Registry.claimed`).
#   - The console could renew a lease of each system.  A system that is cut off would then stop by itself.
#     But after a long absence of the console, all partitions would stop (spec/migration.md#remote-restart).
