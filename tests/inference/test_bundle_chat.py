"""A bundle that answers prompts for the augmentation of texts."""

from ray_sft.data.augment.chat_models import BundleChat, Order


def test_each_order_is_answered_by_its_own_seed(onnx_decoder, texts):
    chat = BundleChat(onnx_decoder)
    orders = [Order(f"say {text}", seed) for seed in range(6) for text in texts]
    together = chat.answer(orders, temperature=3.0, max_tokens=400)
    alone = [chat.answer([order], temperature=3.0, max_tokens=400)[0] for order in orders]
    assert together == alone
    assert len(set(together)) > 1
    assert chat.answer([Order("word " * 5000, 0)], temperature=1.0, max_tokens=8) == [""]
    assert chat.answer(orders[:1], temperature=0.0, max_tokens=1) == [""]  # cut off
