"""The arithmetic of `lingraft check`, against published sizes."""

import pytest

from lingraft.base.settings import ModelShape
from lingraft.estimate import EstimateSettings, count_lora, count_parameters, estimate_needs
from lingraft.train.settings import LaunchSettings, LoraSettings, TrainSettings

MIXTRAL = ModelShape(
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)
TRAIN = TrainSettings(mixture=["1:x"], launch=LaunchSettings(nodes=4, gpus_per_node=8))


def test_mixtral_has_46_7_billion_parameters_of_which_12_9_are_active() -> None:
    count = count_parameters(MIXTRAL, 32_000)
    assert count.total == 46_702_792_704  # Mixtral-8x7B-v0.1's own count
    assert count.active_body + count.embed == pytest.approx(12.9e9, rel=0.01)


def test_the_reference_trains_960_million_lora_parameters() -> None:
    assert count_lora(MIXTRAL, TRAIN) == pytest.approx(960.5e6, rel=1e-3)


def test_adapters_on_routers_are_counted_where_they_are_asked_for() -> None:
    lora = LoraSettings(targets=["all", "gate"])
    routers = count_lora(MIXTRAL, TRAIN.model_copy(update={"lora": lora})) - count_lora(
        MIXTRAL, TRAIN
    )
    assert routers == 64 * 32 * (4096 + 8)  # rank, layers, width and experts


def test_a_quantised_body_takes_24_gigabytes() -> None:
    needs = estimate_needs(MIXTRAL, TRAIN, EstimateSettings(train_tokens=10), 25_000)
    assert needs.gpu_memory_bytes["frozen body"] == pytest.approx(23.96e9, rel=1e-2)
    assert needs.devices == 32
    assert needs.embed_parameters == 2 * 57_000 * 4096


def test_time_is_work_over_speed_and_devices() -> None:
    hints = EstimateSettings(train_tokens=1000, tflops_per_device=1.0)
    one = estimate_needs(MIXTRAL, TRAIN.model_copy(update={"launch": LaunchSettings()}), hints, 0)
    many = estimate_needs(MIXTRAL, TRAIN, hints, 0)
    assert one.train_time_s == pytest.approx(32 * many.train_time_s)


def test_a_token_costs_the_adapters_of_its_own_experts() -> None:
    # 32 layers of rank 64: q, k, v, o and two of eight experts.
    sides = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 2 * 3 * (4096 + 14336)
    assert count_lora(MIXTRAL, TRAIN, 2) == 32 * 64 * sides
    hints = EstimateSettings(train_tokens=10**6, tflops_per_device=1.0)
    needs = estimate_needs(MIXTRAL, TRAIN, hints, 25_000)
    body = count_parameters(MIXTRAL, 57_000).active_body
    flop = 6 * (body + 32 * 64 * sides + 57_000 * 4096)
    assert needs.train_time_s == pytest.approx(10**6 * flop / (1e12 * 32))


def test_the_corpus_stage_takes_its_working_files_too() -> None:
    hints = EstimateSettings(corpus_bytes=100)
    assert estimate_needs(MIXTRAL, TRAIN, hints, 0).disk_bytes["corpus"] == 250


def test_two_nodes_without_gpus_are_two_processes() -> None:
    two = TRAIN.model_copy(update={"launch": LaunchSettings(nodes=2)})
    assert estimate_needs(MIXTRAL, two, EstimateSettings(train_tokens=10), 0).devices == 2


def test_a_number_of_steps_decides_the_tokens() -> None:
    train = TrainSettings(
        mixture=["1:x"], max_steps=3, micro_batch_size=2, seq_len=8, accumulation=5
    )
    needs = estimate_needs(MIXTRAL, train, EstimateSettings(train_tokens=9), 0)
    assert needs.train_tokens == 3 * 2 * 8 * 5


def test_without_quantisation_the_body_takes_two_bytes_a_parameter() -> None:
    plain = TRAIN.model_copy(update={"quantize": "none", "dtype": "float32"})
    needs = estimate_needs(MIXTRAL, plain, EstimateSettings(), 0)
    assert needs.gpu_memory_bytes["frozen body"] == pytest.approx(2 * 46.44e9, rel=1e-2)


@pytest.mark.parametrize(("added", "token_bytes"), [(25_000, 2), (40_000, 4)])
def test_a_token_takes_as_many_bytes_as_in_the_files(added: int, token_bytes: int) -> None:
    needs = estimate_needs(MIXTRAL, TRAIN, EstimateSettings(train_tokens=10), added)
    assert needs.disk_bytes["token files"] == 10 * token_bytes


@pytest.mark.parametrize(
    ("changes", "size_bytes"),
    [
        ({}, 23.9e9),
        ({"packed_cache": "none"}, 0),
        ({"packed_cache": "shared"}, 23.9e9),
        ({"quantize": "none", "packed_cache": "shared"}, 0),
    ],
)
def test_a_packed_body_that_is_kept_takes_disk(changes: dict[str, str], size_bytes: float) -> None:
    train = TRAIN.model_copy(update=changes)
    needs = estimate_needs(MIXTRAL, train, EstimateSettings(), 0)
    assert needs.disk_bytes["packed body"] == pytest.approx(size_bytes, rel=1e-2)


@pytest.mark.parametrize(("cache", "is_kept"), [("auto", False), ("shared", True)])
def test_a_small_packed_body_takes_disk_only_in_a_named_folder(cache: str, is_kept: bool) -> None:
    small = MIXTRAL.model_copy(update={"hidden_size": 64, "intermediate_size": 128})
    train = TRAIN.model_copy(update={"packed_cache": cache})
    needs = estimate_needs(small, train, EstimateSettings(), 0)
    assert (needs.disk_bytes["packed body"] > 0) is is_kept


def test_a_body_is_worth_keeping_from_the_size_that_the_trainer_knows() -> None:
    from lingraft import estimate
    from lingraft.train import packing

    assert estimate._KEPT_ITEMS == packing.WORTH_ITEMS


def test_the_total_of_a_mixture_of_weights_is_what_a_pass_trains_on() -> None:
    train = TrainSettings(mixture=["100%:x"], total_tokens=5_000)
    needs = estimate_needs(MIXTRAL, train, EstimateSettings(train_tokens=9), 0)
    assert needs.train_tokens == 5_000
