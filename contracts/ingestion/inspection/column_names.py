"""Names under which other shops keep our columns, and words for what users do."""

import re
from typing import Final


def _split(names: str) -> tuple[str, ...]:
    return tuple(names.split())


ITEM_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "item_id": _split(
        "itemid productid parentasin asin sku articleid stockcode product item article offerid "
        "movieid newsid pid iid gtin ean artikelnummer productcode itemcode id"
    ),
    "title": _split(
        "title productname itemname producttitle itemtitle prodname name bezeichnung headline "
        "description proddesc"
    ),
    "brand": _split("brand brandname manufacturer vendor make marke hersteller"),
    "category": _split(
        "category categories categorypath productcategory maincategory categoryname categorycode "
        "cat genres department producttype producttypename taxonomy kategorie warengruppe "
        "categoryid"
    ),
    "description": _split(
        "description longdescription productdescription itemdescription detaildesc desc details "
        "beschreibung abstract"
    ),
    "price": _split("price unitprice listprice saleprice currentprice preis cost priceeur priceusd"),
    "available_at": _split(
        "availableat createdat launchdate releasedate publishedat firstseen onlinesince dateadded created"
    ),
}
EVENT_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "user_id": _split(
        "userid customerid visitorid clientid memberid accountid buyerid reviewerid shopperid "
        "user customer visitor uid kundennummer kundennr sessionid session"
    ),
    "item_id": ITEM_NAMES["item_id"][:-1],
    "timestamp": _split(
        "timestamp eventtimestamp eventtime datetime time ts tsms invoicedate orderdate "
        "purchasedate tdat unixtimestamp unixreviewtime createdat occurredat date day datum "
        "zeitpunkt"
    ),
    "event_type": _split(
        "eventtype event eventname action actiontype behavior behaviour behaviortype activity "
        "interaction interactiontype type typ"
    ),
    "quantity": _split("quantity qty units menge numitems itemcount count anzahl stueck"),
    "line_total": _split("linetotal totalprice total amount revenue sales subtotal umsatz gesamtpreis"),
    "price": ITEM_NAMES["price"],
    "request_id": _split(
        "requestid recommendationid impressionid reqid searchid queryid serveid pageviewid listid"
    ),
    "position": _split("position rank slot displayposition"),
    "arm": _split("arm variant experimentarm abgroup testgroup"),
    "scene": _split("scene surface placement pagetype"),
    "query": _split("query searchquery searchterm keyword keywords suchbegriff"),
    "device": _split("device devicetype platform"),
    "propensity": _split("propensity propensityscore"),
    "event_id": _split("eventid messageid insertid orderlineid"),
}
ORDER_NAMES: Final = _split("pos position seq sequence sequenceid step index idx order rank")
"""Of columns that hold an order of a user's events where there is no time."""
PURCHASE_NAMES: Final = _split("rating stars review overall invoice invoiceno orderid orderno transactionid")
"""Of columns that only logs of purchases have: who reviews has bought."""
ORDER_ID_NAMES: Final = _split(
    "orderid orderno ordernumber invoice invoiceno invoiceid transactionid bestellnummer"
)
"""Of columns that name an order, whose state may be told more than once."""
FLAG_NAMES: Final = _split(
    "clicked isclick isclicked click purchased ispurchase ispurchased purchase ordered bought "
    "addedtocart label"
)
"""Of columns that say by 0 and 1 what became of a row that was shown."""
EVENT_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "impression": _split("impression impressions exposure exposed shown served display displayed"),
    "click": _split(
        "click clicks view pv pageview detail productview viewitem detailview open visit favorite "
        "favourite fav wishlist like addtowishlist collect"
    ),
    "cart": _split("cart addtocart basket addtobasket tocart atc"),
    "order": _split(
        "order orders purchase buy bought transaction sale conversion paid checkout completed complete"
    ),
    "return": _split("return returned refund refunded cancel canceled cancelled cancellation chargeback"),
}


def shorten_name(name: str) -> str:
    """A column's name without case, blanks and punctuation; of `a.b` its last part."""
    return re.sub(r"[^0-9a-z]", "", name.lower())


def guess_event_type(word: str) -> str | None:
    """What a shop's word for an event means; None where that is not known."""
    short = shorten_name(word)
    return next((ours for ours, words in EVENT_WORDS.items() if short in words), None)
