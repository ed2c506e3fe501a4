"""The replaceable parts of a managed system that store or wrap its root key; `seam` has their interfaces."""
