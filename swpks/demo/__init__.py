"""The demo of `swpks demo`: the steps of its story, the stage that shows them, and real disks."""
