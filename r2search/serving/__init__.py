"""The web page of an exported network: drop an image, see what the network makes of it."""
