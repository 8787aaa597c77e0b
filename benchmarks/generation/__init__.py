"""Speed of generation beside the published procedure, on the same random weights of full size."""
