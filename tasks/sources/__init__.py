"""External inputs: data sets, pictures, downloads and weight files."""
