"""Words for what users do, and for what becomes of an order."""

import re
from typing import Final

from contracts.ingestion.config import IGNORED

_EVENT_WORDS: Final = {
    "impression": "impression impressions exposure exposed shown served display displayed 曝光 показ",
    "click": (
        "click clicks clicked view views viewed pv pageview detail details detailview open visit favorite "
        "favourite fav wishlist like addwishlist addtowishlist viewitem productview productviewed "
        "viewproduct viewcontent collect 点击 浏览 "
        "收藏 閲覧 商品閲覧 조회 상품조회 клик просмотр klick ansicht vue vista visualizzazione visualização "
        "visualizacao wyświetlenie"
    ),
    "cart": (
        "cart carts add addcart addtocart tocart addedcart added basket addbasket addtobasket addedbasket "
        "atc 加购 加入购物车 カート カート追加 장바구니 장바구니담기 корзина вкорзину warenkorb "
        "indenwarenkorb ajoutpanier ajoutaupanier panier carrito añadiralcarrito carrinho "
        "adicionaraocarrinho carrello koszyk"
    ),
    "order": (
        "order orders ordered purchase purchases purchased buy bought transaction sale sold conversion paid "
        "checkout completed complete ordercompleted completedorder orderplaced placeorder placeanorder "
        "checkoutcompleted completepayment bestellung kauf achat commande compra pedido acquisto ordine "
        "zakup zamówienie 购买 下单 支付 購入 구매 покупка заказ"
    ),
    "return": (
        "return returned refund refunded cancel canceled cancelled cancellation chargeback orderrefunded "
        "ordercancelled ordercanceled orderreturned rückgabe retoure storno "
        "退货 退款 返品 환불 возврат отмена"
    ),
}
_NOISE: Final = frozenset(("product", "products", "item", "items", "user", "ecommerce", "to", "the", "a"))
"""What trackers write around such a word: `Product Viewed`, `add_to_cart`."""
_TYPE_OF_WORD: Final = {word: ours for ours, words in _EVENT_WORDS.items() for word in words.split()}
_TAKES_BACK: Final = re.compile(
    r"refund(?:ed)?$|return(?:ed|s)?$|cancel(?:l?ed)?$|cancellation$|chargeback$|storno|退款|退货|возврат"
)
_DONE: Final = (
    *("order", "orders", "purchase", "payment", "completed", "complete", "issued", "processed", "received"),
    *("success", "succeeded", "full", "fully", "by", "customer", "admin", "seller"),
)
"""What stands beside such a word where it says that an order was taken back, and not what was only asked."""
_VOID_STATE: Final = re.compile(
    r"cancel|refund|void|fail|declin|reject|return|expire|pending|hold|draft|abandon|chargeback|unpaid"
    r"|storn|abgebrochen|erstattet|annul|remb|cancelad|devuelt|estornad|devolvid|recusad|rechazad|rimbors"
    r"|anulow|zwr[oó][tc]|iptal|\biade|zrušen|avbrut|makuler|ausstehend|unbezahlt|nicht bezahlt|impay|não pag"
    r"|no pagad|niet betaald|pendente|pendiente|aguardando|en attente|in attesa|oczekuj|bekliyor|beklemede"
    r"|отмен|возврат|ожида|无效|取消|退款|退货|关闭|待付|キャンセル|返品|취소|환불"
)
_KEPT_STATE: Final = re.compile(
    r"paid|complet|process|ship|deliver|sent|fulfil|dispatch|invoiced|author|success|done|sold|packed|new|open"
    r"|confirm|partial|closed|accepted|bezahlt|versandt|versendet|abgeschlossen|geliefert|erledigt|payé|livré"
    r"|expédié|terminé|pagad|pago\b|concluíd|entreg|aprovad|faturad|completat|spedit|consegnat|pagat"
    r"|verzonden|voltooid|betaald|afgerond|zrealizow|wysłan|opłacon|dostarczon|tamamland|teslim|kargo"
    r"|slutför|skickad|levererad|betald|vyřízen|odeslán|doručen|zaplacen|enviad"
    r"|оплачен|доставлен|выполнен|完成|已付|已支付|发货|签收|成功|発送|完了|완료|배송"
)


def guess_event_type(word: str) -> str | None:
    """What a shop's word for an event means; None where that is not known."""
    # `com.shop.view` names its origin first.
    bare = re.split(r"[./:]", word)[-1]
    if bare != word and (found := guess_event_type(bare)):
        return found
    parts = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word))
    lowered = [part.lower() for part in parts]
    for kept in (lowered, [part for part in lowered if part not in _NOISE]):
        if found := _TYPE_OF_WORD.get("".join(kept)):
            return found
    others = [part for part in lowered if not _TAKES_BACK.match(part)]
    is_all_told = all(part in (*_NOISE, *_DONE) for part in others)
    return "return" if len(others) < len(lowered) and is_all_told else None


def guess_order_state(word: str) -> str | None:
    """Whether an order of such a state counts: `order`, `ignore`, or None where that is not known."""
    # A Turkish capital I leaves its dot behind.
    lowered = word.lower().replace("\u0307", "")
    if "partial" in lowered and "cancel" not in lowered:
        return "order"
    if _VOID_STATE.search(lowered):
        return IGNORED
    return "order" if _KEPT_STATE.search(lowered) else None
