"""The contract of the PowerVM Platform KeyStore as importable code; the prose is the pages of spec/."""
