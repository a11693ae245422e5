"""Where stages are computed: in this process or on a Dask cluster."""
