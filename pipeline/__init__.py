"""filterbank: a bank of convolution filters over a folder of images."""
