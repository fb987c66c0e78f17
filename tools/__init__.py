"""The command line, one command to a file; installed as `tfvae.tools`, run as `tfvae`."""
