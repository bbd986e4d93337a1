"""The heads that make a dense network of a VAN's four maps, and the networks of both."""
