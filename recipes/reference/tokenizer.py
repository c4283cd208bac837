"""The reference tokenizer: byte-level BPE with one token a digit, Qwen's chat markers and think tags."""

from __future__ import annotations

import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from recipes.reference.drive import ACTIONS
from recipes.reference.scenes import scenes
from recipes.reference.sums import MAX_STEPS
from recipes.reference.text import EFFORTS, drive_sample, sums_sample

VOCAB = 512
PAD, START, END, THINK, CLOSE = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"
MARKS = ("<|low|>", "<|medium|>", "<|high|>")  # of the efforts, as the template writes them
SPECIALS = (PAD, START, END, THINK, CLOSE, *MARKS)

# A number is its digits, each with or without the space before it; everything else splits at words.
_SPLIT = r"\n| ?\d| ?[A-Za-z_]+(?:/[A-Za-z]+)?| ?[^\sA-Za-z\d]|\s"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '<|im_start|>assistant\\n<|' + (reasoning_effort or 'high') + '|><think>' }}"
    "{%- endif -%}"
)


def _corpus() -> list[str]:
    rng = random.Random(0)
    drawn = scenes(seed=10)
    texts = [*ACTIONS * 400, *["user", "assistant", "system"] * 400]
    for i in range(1500):
        effort = EFFORTS[i % len(EFFORTS)]
        sample = drive_sample(next(drawn), effort, rng)
        texts += [sample.question, sample.thought]
        sample = sums_sample(1 + i % MAX_STEPS, effort, rng, rng)
        texts += [sample.question, sample.thought]
    return texts


def build() -> PreTrainedTokenizerFast:
    """Train the tokenizer on generated text; the same one every time."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[AddedToken(token, special=True) for token in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START, THINK, CLOSE, *MARKS],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        model_input_names=["input_ids", "attention_mask"],
    )
