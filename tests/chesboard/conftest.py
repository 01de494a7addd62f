"""The tiny models and the reporter that these tests ask for."""

from tests.tiny_models import chat_tokenizer, llama, reporter, tokenizer

__all__ = ["chat_tokenizer", "llama", "reporter", "tokenizer"]
