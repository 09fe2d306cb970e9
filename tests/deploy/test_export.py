from tests.finetune.tiny import Made


def test_x(classify: Made, anomaly: Made) -> None:
    print(classify, anomaly)
    print((anomaly.bundle/"bundle.json").read_text())
    print((classify.run/"metrics.json").read_text())
    print((anomaly.run/"metrics.json").read_text())
