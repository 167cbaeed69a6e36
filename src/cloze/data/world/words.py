# ruff: noqa: E501 (a topic is a line)
"""The word lists of the generated language, all written for this project (public domain).

One line a topic: name | roles | places | things | verbs for what one does with the things. `*` marks a living thing, `_` stands
for a space. A form that two topics share ("crane", "seal") is a word of two senses. The order is the order of frequency.
"""

from __future__ import annotations

TOPICS = """
baking | baker miller | bakery mill | loaf roll bun pie tart pretzel muffin tray | bake knead slice
gardening | gardener florist | garden greenhouse | rose* tulip* fern* spade rake bulb hedge* seedling* | plant water prune
fishing | fisher netmaker | harbour pier | net hook trout* salmon_trap herring* buoy rod scale | catch haul weigh
music | violinist drummer | concert_hall theatre | violin drum flute bow horn pipe organ trumpet | play tune practise
carpentry | carpenter joiner | timber_yard workshop | chair table stool plank shelf mallet chisel cabinet | carve sand varnish
post | postman clerk | post_office mailroom | letter parcel stamp envelope postcard seal file folder | post sort seal
farming | farmer shepherd | farm barn | goat* hen* pig* cow* pony* pen plough horn | feed herd raise
sewing | tailor weaver | sewing_room cloth_hall | shirt skirt coat button needle bolt ribbon scarf | sew stitch hem
cooking | cook waiter | kitchen restaurant | pot pan plate spoon kettle ladle chip fork | fry boil serve
painting | painter sculptor | studio gallery | canvas brush easel portrait sketch statue palette frame | hang shade outline
school | teacher pupil | school classroom | desk pencil notebook ruler eraser board satchel textbook | copy mark correct
computing | programmer engineer | computer_room office | laptop mouse chip tablet screen keyboard cable router | install update test
sailing | captain pilot | dock lighthouse | ship boat anchor mast deck oar raft compass | moor launch steer
medicine | doctor nurse | clinic hospital | bandage tablet needle syringe splint crutch organ heart | order examine store
zoo | keeper vet | zoo paddock | lion* tiger* bat* monkey* camel* mouse* zebra* seal* | feed train brush
building | builder mason | building_site quarry | brick ladder beam crane pipe girder hammer nail | lift stack lay
orchard | grower picker | orchard cellar | apple pear plum cherry peach basket crate barrel | pick rinse press
travel | traveller guide | inn airport | suitcase trunk ticket passport backpack tent lantern blanket | pack check lift
printing | printer editor | print_shop library | book poster pamphlet map novel cover page letter | print bind fold
jewels | jeweller goldsmith | jewel_shop vault | necklace bracelet brooch pearl ruby crown emerald scale | polish engrave weigh
sport | coach referee | stadium gym | ball bat racket net medal whistle helmet club | throw kick catch
clocks | clockmaker watchmaker | clock_tower clock_shop | clock watch pendulum dial gear hourglass bell spring | wind set adjust
forestry | forester logger | forest sawmill | oak* birch* log axe branch acorn trunk stump | chop haul mark
pottery | potter glazier | pottery kiln_house | bowl jug vase cup mug saucer tile urn | glaze mould fire
birds | birdwatcher ranger | aviary marsh | crane* swan* owl* heron* kite* sparrow* falcon* nest | count track observe
locks | locksmith guard | lock_shop gatehouse | key lock chain padlock gate latch hinge safe | lock oil test
astronomy | astronomer stargazer | observatory dome | telescope lens comet chart globe prism meteor star | observe track measure
cards | player dealer | games_room card_club | deck club spade heart puzzle domino token joker | shuffle deal count
railway | conductor signalman | railway_station depot | train carriage wagon signal locomotive timetable buffer rail | inspect stop load
cycling | cyclist mechanic | bicycle_shop racetrack | bicycle tyre pedal saddle pump brake handlebar spoke | ride oil tighten
photography | photographer model | darkroom exhibition | camera album tripod film photograph slide plate flash | develop crop enlarge
beach | surfer lifeguard | beach surf_club | board shell towel umbrella bucket kayak sandcastle float | wax rinse drag
vegetables | digger grocer | field grocery | carrot onion potato tomato cabbage pumpkin turnip leek | peel chop pull
motoring | chauffeur racer | garage showroom | car van truck wheel bumper mirror windscreen headlight | drive park start
archery | archer hunter | archery_range lodge | arrow bow target quiver glove spear shield trap | sharpen aim draw
weather | forecaster recorder | weather_station hilltop | barometer thermometer balloon windsock sensor report rain_gauge forecast | read check note
laboratory | physicist chemist | laboratory lecture_hall | magnet flask beaker battery wire crystal burner scale | heat cool measure
toys | toymaker puppeteer | toy_shop nursery | doll puppet kite robot marble teddy rocket yoyo | build wind hide
law | judge lawyer | court law_office | contract deed statement gavel robe verdict file petition | sign copy read
banking | banker cashier | bank treasury | coin cheque purse wallet receipt ledger banknote safe | count stack store
news | reporter journalist | newsroom press_club | newspaper article headline microphone column magazine editorial interview | write print edit
museum | curator archaeologist | museum excavation | fossil skeleton mummy relic mosaic amulet vessel tablet | unearth label display
barbering | barber hairdresser | salon barbershop | comb razor wig file hairpin perfume sponge hairnet | trim comb sell
winter | skier skater | ice_rink ski_slope | sled ski skate snowman mitten sweater igloo board | wax drag sharpen
climbing | climber hiker | summit cabin | rope boot flag rucksack stove pick torch whistle | tie carry coil
mining | miner geologist | mine tunnel | gem pickaxe cart drill boulder nugget lamp pick | dig haul drill
insects | entomologist collector | insect_house pond | beetle* moth* ant* wasp* spider* cricket* bat* net | catch count draw
housework | cleaner butler | house attic | sofa carpet curtain pillow wardrobe candlestick broom bed | sweep dust fold
"""

FEMALE_NAMES = """
Nora Mira Lena Iris Ada Clara Vera Tessa Olga Ruth Elsa Ines Dora Hana Maud Petra Zoe Greta Anya Lucia Freya Selma Rita Thea
Wanda Bella Cora Edith Fatima Gwen Helga Ilse Jana Kira Lydia Marta Nina Opal Paula Rhea
"""

MALE_NAMES = """
Omar Hugo Ivan Felix Karl Milo Leon Arlo Bruno Oscar Theo Emil Viktor Jonas Anton Pablo Rolf Stefan Tariq Ulrich Walter Yusuf
Zeno Aldo Boris Cyril Dario Egon Fritz Gustav Henrik Igor Jasper Knut Luca Marek Nils Otis Piers Quentin
"""

# Names of two words whose parts stand nowhere else: once the first is read, the second is certain.
TOWNS = """
Port_Mara Lake_Orin Mount_Velda Saint_Brin New_Callow Old_Fenwick Upper_Tarn Lower_Osk Fort_Wexley Cape_Dunmore North_Eldby
South_Harrow East_Quillan West_Marlow Black_Stow White_Ferring Long_Askew High_Petrel Great_Yarrow Little_Combe Castle_Renn
Santa_Lirio Villa_Norden Bad_Elstern Monte_Caldo Puerto_Blanes El_Sarto Los_Pinares Kings_Tolland Queens_Aubrey Bishops_Lydd
Abbots_Merrin
"""

# Companies are named after things: "Apple" builds laptops where "an apple" does not grow.
COMPANIES = """
Apple Comet Anchor Pearl Falcon Compass Crystal Magnet Rocket Lantern Beetle Prism Acorn Pretzel Ruby Cricket Marble Tulip
Meteor Amulet
"""

COLOURS = "red blue green white black yellow brown grey purple orange pink golden".split()

# good and bad, matched by rank; the second of "a/b" is a rarer synonym
GOOD = """
good/fine beautiful/lovely strong/sturdy solid/firm bright/shiny useful/handy excellent/superb smooth/even fresh/crisp
charming/delightful perfect/flawless elegant/graceful safe/secure neat/tidy pleasant/agreeable
""".split()
BAD = """
bad/poor ugly/hideous weak/flimsy fragile/brittle dull/dim useless/worthless terrible/awful rough/uneven stale/rotten
boring/tedious faulty/flawed clumsy/awkward dangerous/unsafe messy/untidy unpleasant/nasty
""".split()
NESS = "bright smooth fresh rough dull weak ugly neat".split()  # takes -ness

HAPPY = "happy/glad proud/pleased cheerful/merry calm/content".split()
UNHAPPY = "sad/unhappy angry/furious worried/anxious tired/weary".split()

NUMBERS = "two three four five six seven eight nine ten eleven twelve".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
TIMES = "morning afternoon evening".split()

IRREGULAR_PLURALS = {
    "loaf": "loaves",
    "scarf": "scarves",
    "shelf": "shelves",
    "mouse": "mice",
    "knife": "knives",
    "trout": "trout",
}

# base: past, participle
IRREGULAR_VERBS = {
    "go": ("went", "gone"),
    "take": ("took", "taken"),
    "give": ("gave", "given"),
    "buy": ("bought", "bought"),
    "sell": ("sold", "sold"),
    "lend": ("lent", "lent"),
    "put": ("put", "put"),
    "find": ("found", "found"),
    "lose": ("lost", "lost"),
    "break": ("broke", "broken"),
    "hurt": ("hurt", "hurt"),
    "see": ("saw", "seen"),
    "meet": ("met", "met"),
    "catch": ("caught", "caught"),
    "feed": ("fed", "fed"),
    "sew": ("sewed", "sewn"),
    "hang": ("hung", "hung"),
    "lay": ("laid", "laid"),
    "throw": ("threw", "thrown"),
    "wind": ("wound", "wound"),
    "set": ("set", "set"),
    "deal": ("dealt", "dealt"),
    "ride": ("rode", "ridden"),
    "drive": ("drove", "driven"),
    "draw": ("drew", "drawn"),
    "read": ("read", "read"),
    "build": ("built", "built"),
    "hide": ("hid", "hidden"),
    "write": ("wrote", "written"),
    "dig": ("dug", "dug"),
    "sweep": ("swept", "swept"),
    "bind": ("bound", "bound"),
    "show": ("showed", "shown"),
    "bring": ("brought", "brought"),
    "win": ("won", "won"),
    "leave": ("left", "left"),
    "keep": ("kept", "kept"),
}
DOUBLED = {
    "stop",
    "trim",
    "chop",
    "pin",
    "drag",
    "crop",
    "wrap",
    "hem",
    "grab",
    "spot",
    "plan",
    "set",
    "put",
    "dig",
    "win",
}
