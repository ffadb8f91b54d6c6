"""Videos in, saliency maps out."""
