"""What comes from outside: data sets, pictures, downloads and weight files."""
