"""Do prompts fit into a model's context? They are counted before the first is asked.

The harness cuts a prompt that is too long at its beginning: the instruction goes first, then the
examples, and the question stays. That is its behaviour for every model, so it is kept; but it is
told, and counted, because such an item was asked with fewer examples than the table says.
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError

__all__ = ["Fitting"]

_SPARE = 8
"""Tokens that a tokenizer may put around a text; no text has more tokens than bytes beside."""


class Fitting:
    """Counts items whose prompt and answer are longer than the context.

    Attributes:
        context: Tokens that the model takes, as the harness finds it.
        num_items: Items that were cut.
    """

    def __init__(self, model: str, lm: Any, *, refuse: bool) -> None:
        """Look at the harness's model.

        Args:
            model: Its name, for messages.
            lm: It.
            refuse: Whether one such item ends the run.
        """
        self._model, self._lm, self._refuse = model, lm, refuse
        self.context = int(lm.max_length)
        self.num_items = 0

    def inspect(self, kind: str, requests: list[Any]) -> None:
        """Count the items of requests that do not fit.

        Raises:
            InputError: An answer alone does not fit; or an item does not, and that is refused.
        """
        if kind == "loglikelihood_rolling":
            return  # the harness reads those in windows
        lengths: dict[str, int] = {}
        cut: dict[tuple[Any, Any], int] = {}
        for request in requests:
            room = self._room(kind, request)
            over = self._over(lengths, request.args[0], room)
            if over:
                item = (request.task_name, request.doc_id)
                cut[item] = max(cut.get(item, 0), over)
        self.num_items += len(cut)
        if cut and self._refuse:
            (task, doc_id), over = max(cut.items(), key=lambda entry: entry[1])
            raise InputError(
                f"model '{self._model}' takes {self.context:,} tokens; {len(cut):,} items are "
                f"longer, the longest is {task} {doc_id} by {over:,} tokens.",
                effect="They would be asked with fewer examples than the others.",
                way_out="Use fewer examples (--num-fewshot N) or let them be cut: --too-long cut.",
            )

    def _room(self, kind: str, request: Any) -> int:
        """Tokens that a prompt may have beside its answer."""
        if kind == "generate_until":
            new = int((request.args[1] or {}).get("max_gen_toks", self._lm.max_gen_toks))
            room = self.context - new
        else:
            answer = request.args[1]
            new = len(answer.encode()) if len(answer.encode()) < _SPARE else self._tokens(answer)
            room = self.context + 1 - new  # the last token is predicted, not read
        if room < 1:
            raise InputError(
                f"model '{self._model}' takes {self.context:,} tokens; {request.task_name} "
                f"{request.doc_id} needs {new:,} for its answer alone.",
                way_out="Evaluate this model on other benchmarks.",
            )
        return room

    def _over(self, lengths: dict[str, int], prompt: str, room: int) -> int:
        """Tokens of a prompt beyond its room; few bytes have fewer tokens, and are not counted."""
        if len(prompt.encode("utf-8", "surrogatepass")) + _SPARE <= room:
            return 0
        if prompt not in lengths:
            lengths[prompt] = self._tokens(prompt)
        return max(lengths[prompt] - room, 0)

    def _tokens(self, text: str) -> int:
        return len(self._lm.tok_encode(text))
