"""The float NVAE as the paper draws it: cells, encoder, decoder, groups, likelihoods."""
