"""The script that MLflow runs to load a logged classifier ("models from code"): no pickle is involved."""

from mlflow.models import set_model

from sem_search.deployment.pyfunc.model import ServedClassifier

set_model(ServedClassifier())
