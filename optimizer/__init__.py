"""The cost and right-sizing optimizer for Azure Machine Learning compute."""
