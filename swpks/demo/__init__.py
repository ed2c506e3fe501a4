"""The demo of `swpks demo`: the steps of its story, their output, and encrypted disks."""
