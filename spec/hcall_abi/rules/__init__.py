"""Every rule of the contract as a row (spec/rules.md); the rows are in the modules of this package."""
