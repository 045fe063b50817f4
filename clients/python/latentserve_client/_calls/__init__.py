"""What calls send and what their replies mean: pure functions and rules, without any I/O."""
