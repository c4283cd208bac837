// A peer of the node on another vendor's DDS: it asks questions and prints the decisions that come back.
//
//   peer DOMAIN TYPEHASH NODE...      NODE is a node's full ROS name, like /anytime; TYPEHASH that of Question, or -
//
// On stdin, a command a line:  ask INDEX ID BUDGET_S TEXT   publish a question to the INDEXth node, stamped now
//                                                           (a \n in TEXT ends a line of it)
//                              raw INDEX HEX                publish these bytes as if they were a question
// On stdout, a JSON object a line: "asked", "decision", and how many "readers" and "writers" of a node are matched.
//
// Fast DDS on loopback, without multicast. The messages are written and read with Fast CDR by hand, field by field.

#include <fastcdr/Cdr.h>
#include <fastcdr/FastBuffer.h>
#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
#include <fastdds/dds/publisher/DataWriter.hpp>
#include <fastdds/dds/publisher/DataWriterListener.hpp>
#include <fastdds/dds/publisher/Publisher.hpp>
#include <fastdds/dds/subscriber/DataReader.hpp>
#include <fastdds/dds/subscriber/DataReaderListener.hpp>
#include <fastdds/dds/subscriber/SampleInfo.hpp>
#include <fastdds/dds/subscriber/Subscriber.hpp>
#include <fastdds/dds/topic/TopicDataType.hpp>
#include <fastdds/dds/topic/TypeSupport.hpp>
#include <fastdds/rtps/transport/UDPv4TransportDescriptor.h>
#include <fastrtps/utils/IPLocator.h>

#include <cmath>
#include <cstring>
#include <ctime>
#include <iostream>
#include <memory>
#include <mutex>
#include <sstream>
#include <vector>

using namespace eprosima::fastdds::dds;
using eprosima::fastcdr::Cdr;
using eprosima::fastcdr::FastBuffer;
using eprosima::fastrtps::rtps::InstanceHandle_t;
using eprosima::fastrtps::rtps::SerializedPayload_t;

namespace {

const uint32_t MOST_BYTES = 1 << 24;

struct Stamp {
  int32_t sec = 0;
  uint32_t nanosec = 0;
  int64_t ns() const { return sec * 1000000000LL + nanosec; }
};

int64_t clock_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

struct Question {
  Stamp stamp;
  std::string frame_id, request_id, trace_id, text;
  std::vector<std::string> choices;
  double budget_s = 0.0;
  std::string raw;  // sent instead, if there is any

  void write(Cdr& cdr) const {
    cdr << stamp.sec << stamp.nanosec << frame_id << request_id << trace_id << text << choices << budget_s;
  }
};

struct Decision {
  Stamp stamp, input_stamp;
  std::string frame_id, request_id, trace_id, bundle_id, source, answer, reason;
  uint8_t status = 0;
  bool calibrated = false, late = false;
  double confidence = 0.0, budget_s = 0.0, elapsed_s = 0.0, slack_s = 0.0;
  uint32_t tokens_used = 0, tokens_planned = 0;

  void read(Cdr& cdr) {
    cdr >> stamp.sec >> stamp.nanosec >> frame_id >> input_stamp.sec >> input_stamp.nanosec >> request_id >> trace_id;
    cdr >> bundle_id >> status >> source >> answer >> confidence >> calibrated >> late >> budget_s >> elapsed_s;
    cdr >> slack_s >> tokens_used >> tokens_planned >> reason;
  }
};

// What is the same for both types: no keys, plain CDR.
template <typename Message>
class Plain : public TopicDataType {
 public:
  explicit Plain(const char* name) {
    setName(name);
    m_typeSize = MOST_BYTES;
    m_isGetKeyDefined = false;
    auto_fill_type_object(false);
    auto_fill_type_information(false);
  }
  std::function<uint32_t()> getSerializedSizeProvider(void* data) override {
    return [this, data] { return size(*static_cast<Message*>(data)); };
  }
  void* createData() override { return new Message(); }
  void deleteData(void* data) override { delete static_cast<Message*>(data); }
  bool getKey(void*, InstanceHandle_t*, bool) override { return false; }
  bool serialize(void*, SerializedPayload_t*) override { return false; }
  bool deserialize(SerializedPayload_t*, void*) override { return false; }
  virtual uint32_t size(const Message&) { return MOST_BYTES; }
};

class QuestionType : public Plain<Question> {
 public:
  QuestionType() : Plain("anytime_msgs::msg::dds_::Question_") {}
  uint32_t size(const Question& question) override {
    size_t bytes = 128 + question.raw.size() + question.text.size() + question.request_id.size();
    for (const auto& choice : question.choices) bytes += 8 + choice.size();
    return static_cast<uint32_t>(bytes);
  }
  bool serialize(void* data, SerializedPayload_t* payload) override {
    const auto& question = *static_cast<Question*>(data);
    payload->encapsulation = CDR_LE;
    if (!question.raw.empty()) {
      std::memcpy(payload->data, question.raw.data(), question.raw.size());
      payload->length = static_cast<uint32_t>(question.raw.size());
      return true;
    }
    FastBuffer buffer(reinterpret_cast<char*>(payload->data), payload->max_size);
    Cdr cdr(buffer, Cdr::LITTLE_ENDIANNESS, Cdr::DDS_CDR);
    cdr.serialize_encapsulation();
    question.write(cdr);
    payload->length = static_cast<uint32_t>(cdr.getSerializedDataLength());
    return true;
  }
};

class DecisionType : public Plain<Decision> {
 public:
  DecisionType() : Plain("anytime_msgs::msg::dds_::Decision_") {}
  bool deserialize(SerializedPayload_t* payload, void* data) override {
    try {
      FastBuffer buffer(reinterpret_cast<char*>(payload->data), payload->length);
      Cdr cdr(buffer, Cdr::DEFAULT_ENDIAN, Cdr::DDS_CDR);
      cdr.read_encapsulation();
      static_cast<Decision*>(data)->read(cdr);
      return true;
    } catch (const eprosima::fastcdr::exception::Exception& error) {
      std::cerr << "a decision cannot be read: " << error.what() << std::endl;
      return false;
    }
  }
};

std::mutex printing;

void print(const std::string& line) {
  std::lock_guard<std::mutex> held(printing);
  std::cout << line << std::endl;
}

std::string quoted(const std::string& text) {
  std::ostringstream out;
  out << '"';
  for (unsigned char c : text) {
    if (c == '"' || c == '\\') out << '\\' << c;
    else if (c < 32) out << "\\u00" << "0123456789abcdef"[c >> 4] << "0123456789abcdef"[c & 15];
    else out << c;
  }
  out << '"';
  return out.str();
}

std::string number(double value) {
  if (!std::isfinite(value)) return "null";
  std::ostringstream out;
  out.precision(17);
  out << value;
  return out.str();
}

class Node : public DataReaderListener, public DataWriterListener {
 public:
  Node(int index, const std::string& name, const std::string& hash, DomainParticipant* participant) : index_(index) {
    auto* question = participant->create_topic(
        "rt" + name + "/question", "anytime_msgs::msg::dds_::Question_", TOPIC_QOS_DEFAULT);
    auto* decision = participant->create_topic(
        "rt" + name + "/decision", "anytime_msgs::msg::dds_::Decision_", TOPIC_QOS_DEFAULT);
    DataWriterQos offered = DATAWRITER_QOS_DEFAULT;  // reliable, keep-last 1, volatile below
    offered.durability().kind = VOLATILE_DURABILITY_QOS;
    offered.history().depth = 1;
    offered.endpoint().history_memory_policy = eprosima::fastrtps::rtps::DYNAMIC_RESERVE_MEMORY_MODE;
    if (hash != "-") {
      const std::string data = "typehash=" + hash + ";";
      offered.user_data().setValue(std::vector<uint8_t>(data.begin(), data.end()));
    }
    DataReaderQos asked = DATAREADER_QOS_DEFAULT;
    asked.reliability().kind = RELIABLE_RELIABILITY_QOS;
    asked.history().depth = 10;
    asked.endpoint().history_memory_policy = eprosima::fastrtps::rtps::DYNAMIC_RESERVE_MEMORY_MODE;
    writer_ = participant->create_publisher(PUBLISHER_QOS_DEFAULT)->create_datawriter(question, offered, this);
    reader_ = participant->create_subscriber(SUBSCRIBER_QOS_DEFAULT)->create_datareader(decision, asked, this);
    if (writer_ == nullptr || reader_ == nullptr) throw std::runtime_error("no endpoints for " + name);
  }

  void ask(const std::string& id, double budget_s, const std::string& text) {
    Question question;
    question.request_id = id;
    question.budget_s = budget_s;
    question.text = text;
    const int64_t steady_ns = clock_ns(CLOCK_MONOTONIC), now_ns = clock_ns(CLOCK_REALTIME);
    question.stamp = {static_cast<int32_t>(now_ns / 1000000000), static_cast<uint32_t>(now_ns % 1000000000)};
    const bool sent = writer_->write(&question);
    print("{\"asked\": " + quoted(id) + ", \"node\": " + std::to_string(index_) + ", \"sent\": " +
          (sent ? "true" : "false") + ", \"steady_ns\": " + std::to_string(steady_ns) + "}");
  }

  void raw(const std::string& bytes) {
    Question question;
    question.raw = bytes;
    writer_->write(&question);
  }

  void on_data_available(DataReader* reader) override {
    Decision d;
    SampleInfo info;
    while (reader->take_next_sample(&d, &info) == ReturnCode_t::RETCODE_OK) {
      const int64_t steady_ns = clock_ns(CLOCK_MONOTONIC);
      if (!info.valid_data) continue;
      std::ostringstream out;
      out << "{\"decision\": " << quoted(d.request_id) << ", \"node\": " << index_ << ", \"steady_ns\": " << steady_ns
          << ", \"stamp_ns\": " << d.stamp.ns() << ", \"input_stamp_ns\": " << d.input_stamp.ns()
          << ", \"frame_id\": " << quoted(d.frame_id) << ", \"trace_id\": " << quoted(d.trace_id)
          << ", \"bundle_id\": " << quoted(d.bundle_id) << ", \"status\": " << int(d.status)
          << ", \"source\": " << quoted(d.source) << ", \"answer\": " << quoted(d.answer)
          << ", \"confidence\": " << number(d.confidence) << ", \"calibrated\": " << (d.calibrated ? "true" : "false")
          << ", \"late\": " << (d.late ? "true" : "false") << ", \"budget_s\": " << number(d.budget_s)
          << ", \"elapsed_s\": " << number(d.elapsed_s) << ", \"slack_s\": " << number(d.slack_s)
          << ", \"tokens_used\": " << d.tokens_used << ", \"tokens_planned\": " << d.tokens_planned
          << ", \"reason\": " << quoted(d.reason) << "}";
      print(out.str());
    }
  }

  void on_publication_matched(DataWriter*, const PublicationMatchedStatus& status) override {
    matched("readers", status.current_count);
  }
  void on_subscription_matched(DataReader*, const SubscriptionMatchedStatus& status) override {
    matched("writers", status.current_count);
  }

 private:
  void matched(const char* what, int count) {
    print(std::string("{\"") + what + "\": " + std::to_string(count) + ", \"node\": " + std::to_string(index_) +
          ", \"steady_ns\": " + std::to_string(clock_ns(CLOCK_MONOTONIC)) + "}");
  }
  const int index_;
  DataWriter* writer_;
  DataReader* reader_;
};

DomainParticipant* participant_on_loopback(uint32_t domain) {
  DomainParticipantQos qos = PARTICIPANT_QOS_DEFAULT;
  auto udp = std::make_shared<eprosima::fastdds::rtps::UDPv4TransportDescriptor>();
  udp->interfaceWhiteList.push_back("127.0.0.1");
  udp->maxInitialPeersRange = 20;
  qos.transport().use_builtin_transports = false;
  qos.transport().user_transports.push_back(udp);
  eprosima::fastrtps::rtps::Locator_t loopback;
  eprosima::fastrtps::rtps::IPLocator::setIPv4(loopback, "127.0.0.1");
  auto& builtin = qos.wire_protocol().builtin;
  builtin.metatrafficUnicastLocatorList.push_back(loopback);  // and thereby no multicast
  builtin.initialPeersList.push_back(loopback);
  return DomainParticipantFactory::get_instance()->create_participant(domain, qos);
}

std::string bytes_of(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: peer DOMAIN TYPEHASH NODE..." << std::endl;
    return 2;
  }
  DomainParticipant* participant = participant_on_loopback(static_cast<uint32_t>(std::stoul(argv[1])));
  if (participant == nullptr) return 1;
  TypeSupport(new QuestionType()).register_type(participant);
  TypeSupport(new DecisionType()).register_type(participant);
  std::vector<std::unique_ptr<Node>> nodes;
  for (int i = 3; i < argc; ++i) nodes.push_back(std::make_unique<Node>(i - 3, argv[i], argv[2], participant));
  print("{\"ready\": true}");
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string command, id, rest;
    size_t index = 0;
    double budget_s = 0.0;
    words >> command >> index;
    if (command == "ask") {
      words >> id >> budget_s >> std::ws;
      std::getline(words, rest);
      for (size_t at = 0; (at = rest.find("\\n", at)) != std::string::npos;) rest.replace(at, 2, "\n");
      nodes.at(index)->ask(id, budget_s, rest);
    } else if (command == "raw") {
      words >> rest;
      nodes.at(index)->raw(bytes_of(rest));
    } else {
      std::cerr << "no command: " << line << std::endl;
    }
  }
  participant->delete_contained_entities();
  DomainParticipantFactory::get_instance()->delete_participant(participant);
  return 0;
}
