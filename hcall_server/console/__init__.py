"""The management console: rules, store and jobs.  `swpks.hmc` is its process."""

# The management console
#
# A console manages several systems.  It holds sealed copies of their stores, and restores a lost store.  It
# saves and restores profiles.  It decides which system owns a partition that moves.  It must guarantee:
#
#   1. A crash loses nothing that was answered: a change of the console's store is durable before the answer,
#      or the request to a system, that follows from it.
#   2. The console opens no copy.  Copies are sealed under trusted system keys, and these keys under
#      root keys that never leave their systems.
#   3. A console that is away delays copies, recoveries and moves, and the start of partitions that may have
#      been restarted elsewhere.  No other call of a guest and no verb of a system waits for it.
#   4. An error, a delay or a false answer of one system stays with this system.  Each system has its own
#      task, its own stream and its own job.  The form of each answer is checked before any of it is stored or
#      printed.
#   5. If the operator is right that a system is lost, no order of the console lets two systems serve one
#      store (`entries`, spec/migration.md#remote-restart).
#
# There are three kinds of state:
#
#   store      One SQLite file (`store`, `database`): identity, systems, copies, sealed keys, register, jobs.
#              Each function is one transaction.  A console that was killed goes on from this file alone.
#   views      The last answer of each system, in memory (`KnownSystem.view`).  A view may be old as soon as
#              it arrives.  So a view is never the permission for a change: the system checks each request
#              itself. A short form of the last view is stored, for the lists of a system that is away.
#   register   Which system owns a partition, and how its last attempt to move stands (`entries`, `registry`).
#              It is a part of the store.
#
# Work begins in three ways:
#
#   events     The stream of a system (`watch`).  An event says where to look.  The console then asks for the
#              present view, and acts on the view.  So an event that is lost, repeated or late does no harm:
#              the system asks again, or the console asks for the view at the next connection.
#   commands   Lines of the real console (`lines`), and our own verbs (`swpks.hmc.orders`).
#   jobs       Work that has to survive a restart of the console (`jobs`).
#
# All of it runs on one event loop.  So code between two awaits is atomic.  A check, and the entry or the job
# that depends on it, have no await between them.  The store is written on the loop too, because the console
# writes rarely, and a commit takes about 10 ms (`database`).
#
# The console dials, and a system never does: a system that dials would need an address and a secret of its
# console (spec/choices.md, C-75).  This package reaches a system only through the Protocol `link.SystemLink`.
# `swpks.hmc` makes links over sockets.  Tests and the simulation make links to machines in the same process.
#
# Dropped:
#
#   - A register of moved partitions alone decided who may have a store.  A partition that never moved has no
#     entry.  So one system could serve it, and a second system a restored copy of it.  Now stores in views,
#     and the copies of systems that are away, count as well (`Registry.claimed`).
#   - A lease that the console renews would stop a system that is cut off.  But a console that is away for
#     long would then stop all partitions (spec/migration.md#remote-restart).
