"""Words of which shops make the names of columns, in the languages of most shops.

`Código do produto`, `Ürün Kodu` and `商品编码` are a word for a product beside one for a number. Every pair
is a name, so that no list has to hold each name of each language.
"""

import re
from collections.abc import Iterable
from itertools import product
from typing import Final


def _list(words: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words.split()))


STOP_WORDS: Final = frozenset(
    _list(
        "de du des do da di del della of the van d internal unique ttc ht tva iva mwst vat inkl exkl incl "
        "excl netto brutto eur usd gbp chf"
    )
)
"""What tells nothing of a column: articles, and whether a tax is in a price."""
_NUMBERS: Final = _list(
    "id ids n no nr nro num number code key sku ref reference uuid nummer kennung schlüssel número código "
    "identifiant codice cod kod kodu kode koodi kód číslo szám nomor mã numer номер код ид 编号 编码 代码 "
    "番号 コード 번호 코드"
)
_ITEMS: Final = _list(
    "product item article goods produkt produktu artikel produit producto artículo produto artigo prodotto "
    "articolo vare produk barang tuote tuotteen cikk sảnphẩm towar towaru ürün stok vara zboží termék "
    "товар товара продукта 商品 产品 宝贝 상품 제품"
)
_USERS: Final = _list(
    "customer client user buyer shopper member account visitor consumer kunde kunden kund käufer benutzer "
    "nutzer mitglied acheteur utilisateur cliente usuario comprador utente acquirente klant gebruiker "
    "klient klienta asiakas asiakkaan vevő ügyfél pelanggan kháchhàng клієнт użytkownik użytkownika "
    "müşteri üye kullanici zákazník zákazníka клиент клиента покупателя пользователя 用户 客户 会员 买家 "
    "顧客 会員 購入者 ユーザー 고객 회원 구매자 사용자"
)
_ORDERS: Final = _list(
    "order sale sales purchase transaction invoice bestell bestellung auftrag auftrags kauf commande "
    "pedido compra venta ordre замовлення tilaus pesanan rendelés ordine bestel bestelling zamówienia "
    "zamówienie sipariş objednávky objednávka заказа покупки 订单 下单 付款 支付 购买 交易 注文 購入 受注 "
    "주문 구매 결제"
)
_TIMES: Final = _list(
    "date datetime time timestamp ts at on datum zeit zeitpunkt heure fecha hora data ora tid tarih tarihi "
    "zaman čas dato päivä pvm dátum tanggal ngày дата время 时间 日期 日時 日 일시 일자 일 날짜 시간"
)
_UNITS: Final = _list(
    "quantity qty units anzahl menge stück stk quantité qté cantidad cant quantidade qtd quantità qta "
    "aantal antal ilość adet miktar množství uds unidades unità pezzi stuks szt количество колво шт 数量 "
    "个数 個数 수량 개수 antall määrä mennyiség jumlah sốlượng кількість"
)
"""A count of orders is that of a person or an item, not of a row: the word is not among these."""
_PRICES: Final = _list(
    "price preis prix precio preço prezzo prijs pris cena fiyat fiyati цена стоимость 价格 单价 售价 hinta "
    "harga ціна 価格 単価 가격 단가 판매가"
)
_SINGLE: Final = _list(
    "unit single enheds enhets yksikkö einzel stück stuk verkaufs vk unitaire unitario jednostkowa birim "
    "销售 成交 販売 판매"
)
_STATES: Final = _list(
    "status state statut estado stato stan stav durum durumu situação situacao статус 状态 ステータス 상태"
)
_LABELS: Final = _list(
    "name nom nombre nome nazwa namn navn naam nama nimi název назва adi 名 名称 标题 명 이름"
)


def list_words(name: str) -> list[str]:
    """The words of a column's name."""
    return re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))


def _pair(firsts: Iterable[str], seconds: Iterable[str]) -> tuple[str, ...]:
    """Every first word before and behind every second one."""
    return tuple(name for a, b in product(firsts, seconds) for name in (a + b, b + a))


PAIRED_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "item_id": _pair(_ITEMS, _NUMBERS),
    "user_id": (*_pair(_USERS, (*_NUMBERS, "email", "mail")), *_USERS),
    "timestamp": (*_pair((*_ORDERS, "event"), _TIMES), *_TIMES),
    "quantity": (*_pair((*_ITEMS, *_ORDERS), _UNITS), *_UNITS),
    "price": (*_pair((*_SINGLE, *_ITEMS), _PRICES), *_PRICES),
    "title": _pair(_ITEMS, _LABELS),
    "order": _pair(_ORDERS, _NUMBERS),
    "state": (*_pair(_ORDERS, _STATES), *_STATES),
}
"""Our column, or what names an `order` or its `state` -> names that are made of such words."""
