"""Does a bag have what a contract asks for? Told by its topics and their types, before a message is read."""

from __future__ import annotations

from collections.abc import Mapping

from maskact_ros.data.bags.align_bag import COMMANDS, IMAGES, STATES
from maskact_ros.data.bags.bag import Bag
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.recorded_message import BagError


def check_topics(bag: Bag, found: Mapping[str, str], contract: Contract) -> str:
    """The topic of the pictures, of the topics and types `found`; raises BagError that names what does not fit."""
    image_topic = bag.first_of(contract.image_topics, found)
    streams = [(image_topic, IMAGES), (contract.state_topic, STATES), (contract.mask_topic, IMAGES)]
    if contract.action_source == "command":
        streams.append((contract.action_topic, COMMANDS))
    for topic, kinds in streams:
        if topic is None:
            continue
        bag.first_of([topic], found)
        if found[topic] not in kinds:
            raise BagError(f"{bag.path}: {topic} is of the type {found[topic]}; allowed: {', '.join(kinds)}")
    return image_topic


def refusal(bag: Bag, contract: Contract) -> str | None:
    """Why a bag cannot be used, as far as its index tells; None where nothing speaks against it."""
    try:
        found = bag.indexed_topics()
        if found is not None:
            check_topics(bag, found, contract)
    except BagError as error:
        return str(error)
    return None
