"""Columns are known by their names in many languages, however tools put the words together."""

import pytest

from contracts.ingestion.inspection.column_names import (
    EVENT_NAMES,
    ITEM_NAMES,
    ORDER_ID_NAMES,
    list_short_names,
    shorten_name,
)
from contracts.ingestion.inspection.event_words import guess_event_type, guess_order_state


def _tell(name, known):
    """Which of ours a name stands for: that of the best rank."""
    ranks = {
        ours: min(names.index(short) for short in list_short_names(name) if short in names)
        for ours, names in known.items()
        if set(list_short_names(name)) & set(names)
    }
    return min(ranks, key=lambda ours: ranks[ours]) if ranks else None


@pytest.mark.parametrize(
    ("ours", "names"),
    [
        ("user_id", "Klantnummer;Kundnummer;ID de cliente;Código do cliente;Müşteri No;ID клиента;회원번호"),
        ("user_id", "Kundenr.;Asiakasnumero;Vevőkód;Клієнт;ID Pelanggan;Kunden-E-Mail"),
        ("user_id", "KUNNR;Auftraggeber;Customer: Internal ID;order__customer_id;orders.customer_id"),
        ("item_id", "Código de producto;Codice articolo;Kod produktu;Ürün Kodu;商品编码;상품번호;MATNR"),
        ("item_id", "Varenr.;Tuotekoodi;Cikkszám;Kód zboží;Kode Produk"),
        ("timestamp", "Ordredato;Tilauspäivä;Dátum;Tanggal Pesanan;Дата замовлення"),
        ("quantity", "Antall;Määrä;Mennyiség;Jumlah;Кількість"),
        ("price", "Enhedspris;Hinta;Egységár;Harga;Ціна;Preis CHF"),
        ("item_id", "Référence produit;product_key;Product2Id;book_id"),
        ("timestamp", "Data ordine;Besteldatum;Data zamówienia;Sipariş Tarihi;주문일;注文日時;date_key"),
        ("timestamp", "order__created;event_ts;订单付款时间;derived_tstamp;Angelegt am"),
        ("quantity", "Qté;Stk.;Antal;Ilość;Adet;Кол-во;购买数量;個数;unitQuantity;SalesQuantity"),
        ("line_total", "Montant TTC;Gesamtbetrag;Importe;Valor total;金額;Сумма;NETWR"),
        ("price", "Prix unitaire TTC;Preis (brutto);Stukprijs;Pris;Birim Fiyat;販売価格;Item Rate"),
    ],
)
def test_a_name_is_known_in_many_languages(ours, names):
    assert {name: _tell(name, EVENT_NAMES) for name in names.split(";")} == dict.fromkeys(
        names.split(";"), ours
    )


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        ("brand", "Производитель"),
        ("description", "商品説明"),
        ("price", "Regular price"),
        ("title", "\u00dcr\u00fcn ad\u0131"),
        ("title", "Benämning"),
        ("title", "Nome"),
        ("category", "ジャンル"),
    ],
)
def test_catalogues_are_known_too(ours, name):
    assert _tell(name, ITEM_NAMES) == ours


@pytest.mark.parametrize("name", ["event_id", "order_count", "country", "total_orders", "customer_group"])
def test_other_names_stand_for_no_user_order_or_quantity(name):
    known = {ours: EVENT_NAMES[ours] for ours in ("user_id", "item_id", "quantity")}
    assert _tell(name, known | {"order": ORDER_ID_NAMES}) is None


def test_the_time_that_a_tracker_corrected_is_the_better_one():
    names = EVENT_NAMES["timestamp"]
    assert names.index("derivedtstamp") < names.index("collectortstamp")


@pytest.mark.parametrize(
    "states",
    [
        ("Concluído", "Cancelado"),
        ("Zrealizowane", "Anulowane"),
        ("Tamamland\u0131", "İptal Edildi"),
        ("Betaald", "Geannuleerd"),
        ("Completato", "Rimborsato"),
        ("Pago", "Aguardando pagamento"),
        ("Bezahlt", "Nicht bezahlt"),
        ("Оплачен", "Ожидает оплаты"),
    ],
)
def test_states_of_orders_are_known_in_many_languages(states):
    assert [guess_order_state(state) for state in states] == ["order", "ignore"]


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ("click", "com.shop.view;commerce:product_view;ViewContent;商品閲覧;Wyświetlenie;vista"),
        ("cart", "carts;In den Warenkorb;Añadir al carrito;カート追加;장바구니담기"),
        ("order", "purchases;CompletePayment;Zakup;acquisto;commande"),
    ],
)
def test_what_users_do_is_known_in_many_languages(ours, words):
    assert {word: guess_event_type(word) for word in words.split(";")} == dict.fromkeys(
        words.split(";"), ours
    )


def test_letters_that_unicode_does_not_take_apart_are_folded():
    assert shorten_name("Kullan\u0131c\u0131") == "kullanici"
    assert shorten_name("Zapłata") == "zaplata"
