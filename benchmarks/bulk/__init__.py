"""Jobs beside bare onnxruntime, and beside the script that a user of Ray Data would write."""
