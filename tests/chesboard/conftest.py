"""The tiny models and the sink that these tests ask for."""

from tests.tiny_models import chat_tokenizer, llama, sink, tokenizer

__all__ = ["chat_tokenizer", "llama", "sink", "tokenizer"]
