"""The console's SSH door: `swpks hmc sshd` (spec/console.md#the-ssh-door)."""
