import numpy as np
import pytest
import torch
from transformers import ByT5Tokenizer

from ray_sft.core import ConfigError, DataError, validate
from ray_sft.inference import TorchRunner
from ray_sft.models import load_processor, locate
from ray_sft.tasks import IGNORED, Example, Rejected, TokenClassification
from ray_sft.tasks.entity_tags import tag_ids, tag_names
from ray_sft.tasks.words import split_words
from tests.factories import TAGGED, tagged, tiny_processor, token_classification

LABELS = ("Chemical", "Disease")
TASK = TokenClassification(labels=LABELS)
INDEX = {label: place for place, label in enumerate(LABELS)}
NAMES = tag_names(LABELS)
SENTENCE = (
    "Selegiline/B-Chemical -/O induced/O postural/B-Disease hypotension/I-Disease in/O "
    "Parkinson/B-Disease '/I-Disease s/I-Disease disease/I-Disease"
)


@pytest.fixture(scope="module")
def wordpieces():
    return load_processor(locate("embedded/minilm").processor)


@pytest.fixture(params=["wordpieces", "bytes"])
def processor(request, wordpieces):
    return wordpieces if request.param == "wordpieces" else tiny_processor()


def encode(row, processor, task=TASK) -> Example:
    (example,) = task.encode([row], processor)
    assert isinstance(example, Example), example
    return example


def shown(example, processor):
    """``token tag`` for every token, without a tag where it is no target."""
    tokens = processor.convert_ids_to_tokens(example.arrays["input_ids"].tolist())
    labels = example.arrays["labels"].tolist()
    return [
        token if label == IGNORED else f"{token} {NAMES[label]}"
        for token, label in zip(tokens, labels, strict=True)
    ]


def answer(example, tags, task=TASK):
    """The response of a model that is sure of a tag for each word that was kept."""
    names = tag_names(task.labels)
    logits = np.zeros((1, example.length, len(names)), dtype=np.float32)
    ids = tag_ids(tags, "bio", {label: place for place, label in enumerate(task.labels)})
    logits[0, example.arrays["word_starts"], ids] = 9.0
    logits[0, np.setdiff1d(np.arange(example.length), example.arrays["word_starts"]), 1] = 99.0
    batch = {"input_ids": logits[..., 0], "attention_mask": logits[..., 0]}
    outputs = task.predict(lambda _: {"logits": logits}, batch)
    (response,) = task.decode(outputs, [example], None)
    return response


def found(response, text):
    return [(entity.label, text[entity.start : entity.end]) for entity in response.entities]


GOLDEN = [
    "[CLS]",
    *("se B-Chemical", "##leg", "##ili", "##ne"),
    "- O",
    "induced O",
    *("post B-Disease", "##ural"),
    *("h I-Disease", "##yp", "##ote", "##ns", "##ion"),
    "in O",
    *("parkinson B-Disease", "' I-Disease", "s I-Disease", "disease I-Disease"),
    "[SEP]",
]


def test_golden_alignment_of_word_pieces(wordpieces):
    assert shown(encode(tagged(SENTENCE), wordpieces), wordpieces) == GOLDEN


def test_tags_stand_at_the_first_sub_word_of_each_word(processor):
    row = tagged(SENTENCE)
    example = encode(row, processor)
    starts = example.arrays["word_starts"]
    assert example.arrays["labels"][starts].tolist() == tag_ids(row["tags"], "bio", INDEX)
    assert (np.delete(example.arrays["labels"], starts) == IGNORED).all()
    ids = example.arrays["input_ids"]
    pieces = np.split(ids, starts[1:])
    words = [processor.decode(p, skip_special_tokens=True).strip() for p in pieces]
    assert [word.lower() for word in words] == [word.lower() for word in row["tokens"]]


def test_words_that_vanish_do_not_shift_the_tags(wordpieces):
    plain = encode(tagged("Selegiline/B-Chemical induced/O hypotension/B-Disease"), wordpieces)
    row = tagged("\u200b/O Selegiline/B-Chemical \ufe0f/O induced/O hypotension/B-Disease")
    row = {"tokens": ["", *row["tokens"]], "tags": ["O", *row["tags"]]}
    holey = encode(row, wordpieces)
    for name in ("input_ids", "labels", "word_starts"):
        np.testing.assert_array_equal(plain.arrays[name], holey.arrays[name])
    assert holey.arrays["words"].tolist() == [2, 4, 5]


def test_a_word_that_vanishes_does_not_cut_an_entity_in_two(wordpieces):
    row = tagged("postural/B-Disease \u200b/I-Disease hypotension/I-Disease")
    example = encode(row, wordpieces)
    targets = [token for token in shown(example, wordpieces) if " " in token]
    assert targets == ["post B-Disease", "h I-Disease"]
    response = answer(example, ["B-Disease", "I-Disease"])
    assert found(response, " ".join(row["tokens"])) == [("Disease", " ".join(row["tokens"]))]
    metrics = TASK.metrics()
    metrics.update([response], [example])
    assert metrics.compute()["f1"] == 1.0


def test_a_word_without_a_known_letter_has_its_tag(wordpieces):
    example = encode(tagged("\u2603/B-Disease"), wordpieces)
    assert shown(example, wordpieces) == ["[CLS]", "[UNK] B-Disease", "[SEP]"]


@pytest.mark.parametrize("text", ["\u200b \ufe0f", "\u200b"])
def test_words_that_all_vanish_are_rejected(wordpieces, text):
    (result,) = TASK.encode([{"text": text}], wordpieces)
    assert result == Rejected("the words hold nothing that the tokenizer knows")


def test_a_long_sentence_is_cut_between_words_and_counted(wordpieces):
    whole = encode(tagged(SENTENCE), wordpieces)
    for max_length in range(6, whole.length):
        task = TASK.model_copy(update={"max_length": max_length})
        example = encode(tagged(SENTENCE), wordpieces, task)
        assert example.length <= max_length
        assert example.length + example.truncated == whole.length
        assert example.arrays["input_ids"][-1] == wordpieces.sep_token_id
        kept = example.length - 1
        assert example.arrays["input_ids"][:kept].tolist() == (
            whole.arrays["input_ids"][:kept].tolist()
        )
        next_words = {*whole.arrays["word_starts"].tolist(), whole.length - 1}
        assert kept in next_words
        assert min(place for place in next_words if place > kept) + 1 > max_length


def test_entities_behind_the_cut_count_as_not_found(wordpieces):
    task = TASK.model_copy(update={"max_length": 9})
    example = encode(tagged(SENTENCE), wordpieces, task)
    words = [tagged(SENTENCE)["tokens"][word] for word in example.arrays["words"]]
    assert words == ["Selegiline", "-", "induced"]
    assert example.arrays["lost_entities"].tolist() == [1, 1]
    metrics = task.metrics()
    metrics.update([answer(example, ["B-Chemical", "O", "O"])], [example])
    assert metrics.compute()["recall"] == pytest.approx(1 / 3)


def test_a_first_word_that_does_not_fit_is_rejected(wordpieces):
    task = TASK.model_copy(update={"max_length": 4})
    (result,) = task.encode([{"text": "electroencephalography is long"}], wordpieces)
    assert result == Rejected("the first word has more tokens than max_length (4)")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "the row has 2 words and 1 tags"),
        ({"text": "a b.", "tags": ["O", "O"]}, "the row has 3 words and 2 tags"),
        ({"tokens": ["a"], "tags": "O"}, "tags is not a list"),
        ({"tokens": ["a"], "tags": ["Chemical"]}, "tag 'Chemical' is none of the scheme bio"),
        ({"tokens": ["a"], "tags": ["B-Gene"]}, "entity type 'Gene' is not one of the task's"),
        ({"tags": ["O"]}, "text is missing or empty"),
    ],
)
def test_rows_that_cannot_be_learned_are_rejected_by_reason(row, reason):
    (result,) = TASK.encode([row], tiny_processor())
    assert isinstance(result, Rejected)
    assert result.reason.startswith(reason)


def test_the_scheme_is_that_of_the_file_and_bio_is_learned(processor):
    tokens = ["Aspirin", "ibuprofen", "acid", "and", "gout"]
    spellings = {
        "bio": "B-Chemical B-Chemical I-Chemical O B-Disease",
        "iob1": "I-Chemical B-Chemical I-Chemical O I-Disease",
        "io": "I-Chemical I-Chemical I-Chemical O I-Disease",
    }
    learned = {}
    for scheme, tags in spellings.items():
        task = TokenClassification(labels=LABELS, scheme=scheme)
        example = encode({"tokens": tokens, "tags": tags.split()}, processor, task)
        labels = example.arrays["labels"][example.arrays["word_starts"]]
        learned[scheme] = " ".join(NAMES[label] for label in labels)
    assert learned["bio"] == learned["iob1"] == spellings["bio"]
    assert learned["io"] == "B-Chemical I-Chemical I-Chemical O B-Disease"


TEXTS = (
    "Where is my parcel? It was due on Monday 12 May.",
    "Selegiline-induced  postural\thypotension (0.5 mg/kg)\u200b.",
    "转账还没有到账，请帮我查一下 iPhone15。",
    "na\u00efve cafe\u0301 \U0001f600!!",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_service_reads_the_tokens_that_training_read(processor, text):
    words = [word for word, _, _ in split_words(text)]
    trained = encode({"tokens": words, "tags": ["O"] * len(words)}, processor)
    served = encode({"text": text}, processor)
    for name in ("input_ids", "word_starts", "words"):
        np.testing.assert_array_equal(trained.arrays[name], served.arrays[name])


@pytest.mark.parametrize(
    ("text", "tags", "entities"),
    [
        (
            "He got  Parkinson's disease, then\tgout.",
            "O O B-Disease I-Disease I-Disease I-Disease O O B-Disease O",
            [("Disease", "Parkinson's disease"), ("Disease", "gout")],
        ),
        (
            "\U0001f600服用阿司匹林后头痛。",
            "O O O B-Chemical I-Chemical I-Chemical I-Chemical O B-Disease I-Disease O",
            [("Chemical", "阿司匹林"), ("Disease", "头痛")],
        ),
        (
            "cafe\u0301-induced gout",
            "I-Chemical O I-Disease B-Disease",  # an I- with nothing before it begins an entity
            [("Chemical", "cafe\u0301"), ("Disease", "induced"), ("Disease", "gout")],
        ),
    ],
)
def test_entities_are_told_by_their_characters(processor, text, tags, entities):
    example = encode({"text": text}, processor)
    response = answer(example, tags.split())
    assert found(response, text) == entities
    assert response.loss_sum == 0.0
    words = split_words(text)
    for entity in response.entities:
        assert entity.start == words[entity.first_word][1]
        assert entity.end == words[entity.last_word][2]
        assert entity.score == pytest.approx(np.exp(9) / (np.exp(9) + 4), rel=1e-5)


def test_characters_of_tokens_are_those_of_the_tokens_joined(processor):
    row = tagged(SENTENCE)
    response = answer(encode(row, processor), row["tags"])
    assert found(response, " ".join(row["tokens"])) == [
        ("Chemical", "Selegiline"),
        ("Disease", "postural hypotension"),
        ("Disease", "Parkinson ' s disease"),
    ]


def test_predict_is_the_log_of_the_softmax_even_of_large_logits():
    logits = np.asarray([[[1000.0, 999.0, -1000.0]]], dtype=np.float32)
    batch = {"input_ids": np.ones((1, 1)), "attention_mask": np.ones((1, 1))}
    outputs = TASK.predict(lambda _: {"logits": logits}, batch)["log_probabilities"]
    expected = torch.log_softmax(torch.from_numpy(logits), dim=-1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)


def test_arrays_fit_into_shards(processor):
    for row in (tagged(SENTENCE), {"text": "gout"}):
        for name, array in encode(row, processor).arrays.items():
            assert array.ndim == 1, name
            assert array.dtype == np.int32, name


def test_the_arrays_of_a_row_without_its_tags_do_not_depend_on_them(processor):
    """What tells duplicates, and evaluation rows that training has too."""
    row = tagged(SENTENCE)
    one = encode(row, processor)
    two = encode(row | {"tags": ["O"] * len(row["tokens"])}, processor)
    for name in one.arrays.keys() - {"labels"}:
        np.testing.assert_array_equal(one.arrays[name], two.arrays[name])


def test_a_tokenizer_that_does_not_tell_words_apart_is_refused():
    with pytest.raises(DataError, match="ByT5Tokenizer does not tell words apart"):
        TASK.encode([{"text": "gout"}], ByT5Tokenizer())


def test_labels_are_learned_sorted_and_kept_when_given():
    learned = TokenClassification().resolve({"tags": ["B-b", "I-a", "I-b", "O", "c"]})
    assert learned.labels == ("a", "b")
    options = learned.model_options()
    assert options["id2label"] == {0: "O", 1: "B-a", 2: "I-a", 3: "B-b", 4: "I-b"}
    assert options["num_labels"] == 5
    assert options["label2id"]["I-b"] == 4
    given = TokenClassification(labels=("b", "a"))
    assert given.resolve({"tags": ["B-a", "O"]}) is given


def test_types_of_a_former_model_keep_their_places():
    former = TokenClassification(labels=("z", "b"))
    learned = TokenClassification().resolve({"tags": ["B-b", "I-a", "O"]}, former)
    assert learned.labels == ("z", "b", "a")


def test_data_without_entities_of_the_scheme_is_refused():
    with pytest.raises(DataError, match=r"no entity of the scheme io \(they are: B-a, O\)"):
        TokenClassification(scheme="io").resolve({"tags": ["O", "B-a"]})
    with pytest.raises(DataError, match="they are: nothing"):
        TokenClassification().resolve({"tags": []})


def test_a_type_that_only_evaluation_has_is_named_with_the_nearest():
    with pytest.raises(DataError, match=r"eval data has entities of type 'Diseases'.*'Disease'\?"):
        TASK.check_values({"tags": ["O", "B-Chemical", "B-Diseases"]}, split="eval")
    with pytest.raises(DataError, match="train data has entities of type 'Gene'"):
        TASK.resolve({"tags": ["B-Gene"]})
    TASK.check_values({"tags": ["O", "I-Disease", "B-Chemical"]}, split="eval")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ["a", "a"]}, "label 'a' stands twice"),
        ({"labels": ["a", " "]}, "a label is empty"),
        ({"scheme": "bioes"}, "scheme"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        validate(TokenClassification, fields, what="the task")


@pytest.mark.parametrize(
    "request_", [{}, {"text": ""}, {"tokens": []}, {"text": "a", "tokens": ["a"]}]
)
def test_a_request_is_a_text_or_words(request_):
    with pytest.raises(ValueError, match="EntityRequest"):
        TASK.Request.model_validate(request_)


def test_a_model_that_has_learned_its_rows_answers_their_entities():
    """Both ends of the task agree: labels, loss, prediction, entities and figures."""
    case = token_classification()
    examples = case.task.encode(case.rows, case.processor)
    batch = case.task.collate(examples, case.processor)
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    optimizer = torch.optim.AdamW(case.model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = case.task.loss(case.model, tensors)
        (loss.loss_sum / loss.num_targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    outputs = case.task.predict(TorchRunner(case.model), batch)
    responses = case.task.decode(outputs, examples, case.processor)
    metrics = case.task.metrics()
    metrics.update(responses, examples)
    figures = metrics.compute()
    assert figures["f1"] == figures["macro_f1"] == 1.0
    assert figures["num_entities"] == 7
    joined = [" ".join(tagged(sentence)["tokens"]) for sentence in TAGGED]
    assert [found(r, text) for r, text in zip(responses, joined, strict=True)] == [
        [("thing", "parcel"), ("place", "New York"), ("day", "Monday"), ("day", "Tuesday")],
        [("person", "Anna")],
        [("thing", "账"), ("place", "上 海")],
    ]
