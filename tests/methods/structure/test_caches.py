"""Language models that remember keys and values of the tokens before, where an attention is gone."""

import copy
import pickle

import pytest
import torch
from greenprune.methods.structure.surgery import evaluate, masked, remove
from greenprune.methods.structure.trace import trace
from torch import nn

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=None, pad_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.filterwarnings("ignore")  # of transformers about its own arguments
def test_what_a_model_remembers_stays_right_when_its_first_attention_goes(make):
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)  # fresh ones hardly tell one token from another
    ids = torch.randint(1, 50, (2, 7))
    structure = trace(model, {"input_ids": ids})
    first = next(b for b in structure.branches if ".0." in b.end and "attn" in b.end)
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[first.unit] = False
    with masked(model, structure, keep):
        expected = evaluate(model, {"input_ids": ids}).logits
    small = remove(copy.deepcopy(model), structure, keep).eval()
    small = pickle.loads(pickle.dumps(small))
    assert (evaluate(small, {"input_ids": ids}).logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    with torch.no_grad():
        whole, begun = small(ids).logits, small(ids[:, :4])
        rest = small(
            ids[:, 4:], past_key_values=begun.past_key_values
        ).logits  # positions follow from what is remembered
    assert (rest - whole[:, 4:]).abs().max() <= 1e-5 * whole.abs().max()
