"""The program in which a replica of a model runs; it imports nothing of the rest of Lakeport.

It runs in the model's own environment (Python 3.10 or newer, numpy and orjson, any MLflow), where
`__main__.py` loads this folder under the name `lakeport_worker`.
"""
