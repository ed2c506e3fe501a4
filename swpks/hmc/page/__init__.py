"""The console's page in a browser: `swpks hmc serve --page HOST:PORT` (spec/console.md#the-page)."""

# The page shows the overview, and changes nothing
#
# The guarantees:
#
#   1. No request changes anything: there is no form, no verb and no cookie.  Only GET and HEAD are taken.
#   2. A name with markup is text.  The templates escape every value, and a Content-Security-Policy with a new
#      nonce for each answer lets no other script run.
#   3. A page of another site can't read it.  A site could give its name the address of this machine (DNS
#      rebinding), and its script would then be of the same origin.  So a request has to name a host that is
#      ours, and a foreign name is refused.
#   4. The page has no password.  So it is served on loopback, unless the operator says `--insecure-listen`.
#   5. No browser delays the console.  A viewer gets the newest overview only, one rendering serves all of
#      them, and a stop of the console ends open streams at once.
#   6. The page works without scripts: it has all of the state, and the browser loads it again.
#
# The listener is one of its own, in the console's process.  The control channel's listener has other bounds:
# a connection there lives for 5 minutes, and a page stays open for days.
#
# Dropped: htmx and a framework in the browser.  The script has one page of code, replaces changed parts, and
# says whether the connection stands.
