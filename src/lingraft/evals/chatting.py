"""`lingraft chat`: talk to a model in the terminal.

With a chat template the talk is a list of messages, rendered anew each time. A base model has
none: then the text so far simply goes on, and that is said; what the model wrote is the text that
its tokens add to the tokens before them, space and all. What no longer fits the context is left out
from its beginning, and that is said, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from .loading import Loaded
from .sampling import Sampling, continue_ids, refuse_surrogates

__all__ = ["HELP", "Chat", "Turn"]

HELP = "/reset begins anew, /exit ends, /help tells this."


@dataclass
class Turn:
    """One message."""

    role: str
    """system, user or assistant."""
    text: str


@dataclass
class Chat:
    """A talk and its history.

    Attributes:
        loaded: The model.
        how: How tokens are chosen.
        write: Gets the answer's text as it comes.
        tell: Gets what the reader must know besides.
        system: What stands before the talk; "" for nothing.
    """

    loaded: Loaded
    how: Sampling
    write: Callable[[str], None]
    tell: Callable[[str], None]
    system: str = ""
    turns: list[Turn] = field(default_factory=list)

    @property
    def has_template(self) -> bool:
        """Whether the model comes with a chat template."""
        return bool(getattr(self.loaded.tokenizer, "chat_template", None))

    def greet(self) -> None:
        """Tell how the model is talked to."""
        if self.has_template:
            self.tell(f"{self.loaded.name}: messages go through its chat template. {HELP}")
        else:
            self.tell(
                f"{self.loaded.name} has no chat template: it goes on with the text as it stands, "
                f"as a base model does. {HELP}"
            )

    def take(self, line: str) -> bool:
        """Do what a line asks: a command, or an answer.

        Returns:
            Whether the talk goes on.

        Raises:
            InputError: The line holds what is no character, or logits are not finite.
        """
        command = line.strip()
        match command:
            case "/exit" | "/quit":
                return False
            case "/reset":
                self.turns.clear()
                self.tell("The talk begins anew.")
            case "/help":
                self.tell(HELP)
            case _ if command.startswith("/"):
                self.tell(f"{command.split()[0]}: no such command. {HELP}")
            case _ if command:
                self.answer(line)
        return True

    def answer(self, text: str) -> str:
        """Answer a message; its text goes to `write` as it comes, and into the history.

        Raises:
            InputError: The text holds what is no character, or logits are not finite.
        """
        refuse_surrogates(text, "the message")
        self.turns.append(Turn("user", text))
        ids = self._fitting()
        if ids is None:
            self.turns.pop()
            self.tell(
                f"The message is too long: with {self.how.max_new_tokens:,} tokens to answer it "
                f"exceeds the context of {self.loaded.context:,}."
            )
            return ""
        heard: list[str] = []

        def hear(part: str) -> None:
            heard.append(part)
            self.write(part)

        streamer = _Streamer(self.loaded.tokenizer, [] if self.has_template else ids, hear)
        try:
            continue_ids(
                self.loaded.model,
                self.loaded.tokenizer,
                ids,
                self.how,
                name=self.loaded.name,
                streamer=streamer,
            )
        except KeyboardInterrupt:
            streamer.end()
            self.tell("\n(stopped)")
        answer = "".join(heard)
        self.turns.append(Turn("assistant", answer))
        return answer

    def _fitting(self) -> list[int] | None:
        """Give the ids of the talk, without turns that no longer fit; None: not even the last."""
        dropped = 0
        context = self.loaded.context
        while True:
            ids = self._ids(self.turns[dropped:])
            if context is None or len(ids) + self.how.max_new_tokens <= context:
                break
            if dropped + 1 >= len(self.turns):
                return None
            dropped += 1 + (self.turns[dropped + 1].role == "assistant")
        if dropped:
            self.tell(f"(the first {dropped} messages no longer fit the context and are left out)")
            del self.turns[:dropped]
        return ids

    def _ids(self, turns: list[Turn]) -> list[int]:
        tokenizer: Any = self.loaded.tokenizer
        if not self.has_template:
            text = "\n".join([self.system, *_joined(turns)] if self.system else _joined(turns))
            plain: list[int] = tokenizer(text)["input_ids"]
            return plain
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        try:
            rendered = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # templates are programs, and raise what they like
            raise InputError(
                f"{self.loaded.name}: its chat template refuses the talk: {error}",
                way_out="Leave --system out, or begin anew with /reset.",
            ) from None
        ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return ids


def _joined(turns: list[Turn]) -> list[str]:
    """Give the lines of a plain text: what was given, with what the model wrote behind it."""
    lines: list[str] = []
    for turn in turns:
        if turn.role == "assistant" and lines:
            lines[-1] += turn.text
        else:
            lines.append(turn.text)
    return lines


class _Streamer:
    """What transformers hands tokens to; the text that they add comes out of it.

    Decoded with what stands before: alone, SentencePiece would drop a space before the first piece.
    """

    def __init__(self, tokenizer: Any, before: list[int], write: Callable[[str], None]) -> None:
        """Begin a text.

        Args:
            tokenizer: A transformers tokenizer.
            before: Ids whose text goes on; none where a message is a text of its own.
            write: Gets the text as it comes, no character in parts.
        """
        self._tokenizer, self._write = tokenizer, write
        self._ids = list(before)
        self._shown, self._is_prompt = self._decode(), True

    def put(self, value: Any) -> None:
        """Take tokens; the first ones are the prompt, which is known."""
        if not self._is_prompt:
            self._ids += value.tolist()
            text = self._decode()
            if not text.endswith("\ufffd"):  # bytes of a character that is not whole yet
                self._flush(text)
        self._is_prompt = False

    def end(self) -> None:
        """Write what was held back."""
        self._flush(self._decode())

    def _flush(self, text: str) -> None:
        part = text.removeprefix(self._shown)
        if not text.startswith(self._shown):
            # Bytes that are no character spoil those before them, as SentencePiece decodes.
            part = text.rpartition("\ufffd")[2]
        if part:
            self._write(part)
        self._shown = text

    def _decode(self) -> str:
        text: str = self._tokenizer.decode(
            self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
