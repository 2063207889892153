"""Chat and embedding models in engines: replicas that speak the OpenAI wire on a unix socket."""
