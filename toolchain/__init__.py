"""Builds the engine, providers, servers and images that this project runs on, from package registries alone."""
