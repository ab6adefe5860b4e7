"""A local service over the API that OpenAI's clients speak."""
