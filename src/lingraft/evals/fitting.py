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
_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""The harness's names for the most tokens to generate, the first that is given wins."""


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
        over_of = self._over_generated if kind == "generate_until" else self._over_answered
        cut: dict[tuple[Any, Any], int] = {}
        for request in requests:
            over = over_of(request)
            if over > 0:
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

    def _over_answered(self, request: Any) -> int:
        """Tokens of a prompt with its answer beyond the context, counted as the harness does.

        It encodes both as one text; the last token is predicted, not read.
        """
        prompt, answer = request.args[0], request.args[1]
        if _fits_by_bytes(prompt + answer, self.context):
            return 0
        if prompt:
            num_all = self._tokens(prompt + answer)
        else:  # one token stands for it
            num_all = 1 + len(self._lm.tok_encode(answer, add_special_tokens=False))
        over = num_all - 1 - self.context
        if over > 0:
            num_before = self._tokens(prompt) if prompt else 1
            self._refuse_answer(request, num_all - num_before, self.context)
        return over

    def _over_generated(self, request: Any) -> int:
        """Tokens of a prompt beyond what the text to be generated leaves of the context."""
        given = request.args[1] or {}
        named = [given[name] for name in _MAX_TOKENS if given.get(name) is not None]
        new = int(named[0] if named else self._lm.max_gen_toks)
        self._refuse_answer(request, new, self.context - 1)
        room = self.context - new
        prompt = request.args[0]
        return 0 if _fits_by_bytes(prompt, room) else self._tokens(prompt) - room

    def _refuse_answer(self, request: Any, num_new: int, most: int) -> None:
        if num_new > most:
            raise InputError(
                f"model '{self._model}' takes {self.context:,} tokens; {request.task_name} "
                f"{request.doc_id} needs {num_new:,} for its answer alone.",
                way_out="Evaluate this model on other benchmarks.",
            )

    def _tokens(self, text: str) -> int:
        return len(self._lm.tok_encode(text))


def _fits_by_bytes(text: str, num_tokens: int) -> bool:
    """Tell whether a text is so short that its tokens need not be counted."""
    return len(text.encode("utf-8", "surrogatepass")) + _SPARE <= num_tokens
