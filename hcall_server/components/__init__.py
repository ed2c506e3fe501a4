"""The replaceable parts of a managed system that keep its root key, behind seams."""
