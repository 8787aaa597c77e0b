"""All dealings with MLflow: runs, registered models, and the server as a place; the only room that imports mlflow."""
