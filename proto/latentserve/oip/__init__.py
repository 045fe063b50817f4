"""Generated messages and stubs of the Open Inference Protocol; `make proto` writes them.

Never edit them by hand. The descriptors of package inference exist once a process: do not import another copy beside
this one.
"""
