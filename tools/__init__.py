"""The command line, one verb a file. Installed as `tfvae.tools`, run as `tfvae`."""
