"""Whether what normal runs compute is what the Image Biomarker Standardisation Initiative found."""
